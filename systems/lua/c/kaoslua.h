/*
** Fuel, seeds and object numbers: what this build adds to Lua's C API.
** Fuel is a 64-bit account of one VM. Every loop, call and piece of work without a bound takes from
** it; when it is negative, the next check raises, and so does every check after it.
*/
#ifndef kaoslua_h
#define kaoslua_h

#include "lua.h"

/* slots of one Lua stack (16 bytes each); stock Lua has 1000000 */
#define KAOSLUA_MAXSTACK	200000

/* a longer string is never converted to a number (bytes) */
#define KAOSLUA_MAXNUMERAL	256

/*
** a path up to this long (bytes) is shown whole in errors; stock Lua keeps the last 57. The buffer of
** 'lua_Debug' stays as it is: mlua knows its size.
*/
#define KAOSLUA_MAXPATH	256

/* called once, on the thread that ran dry, before the error is raised; it must not raise */
typedef void (*kaoslua_Hook) (lua_State *L);

/* the seed of the next state that this OS thread creates; used once, then 0 */
LUA_API void (kaoslua_nextseed) (lua_Unsigned seed);

LUA_API void (kaoslua_setfuel) (lua_State *L, lua_Integer fuel);
LUA_API lua_Integer (kaoslua_getfuel) (lua_State *L);

/* fuel that collections at the memory limit took since 'kaoslua_setfuel'; 0 when there was none */
LUA_API lua_Integer (kaoslua_getemergency) (lua_State *L);

LUA_API void (kaoslua_setfuelhook) (lua_State *L, kaoslua_Hook hook);

/* take 'n' and raise if that is too much */
LUA_API void (kaoslua_charge) (lua_State *L, lua_Unsigned n);

/* take 'n'; the next check raises */
LUA_API void (kaoslua_owe) (lua_State *L, lua_Unsigned n);

/* number of a table, closure, userdata or thread in order of creation; 0 for anything else */
LUA_API lua_Unsigned (kaoslua_objectid) (lua_State *L, int idx);

/* next number of the sequence that the host's seed starts */
LUA_API lua_Unsigned (kaoslua_draw) (lua_State *L);

#endif
