/*
** Fuel, seeds and object numbers: the functions behind kaoslua.h and kaoscore.h.
*/
#define kaoslua_c
#define LUA_CORE

#include "lprefix.h"

#include <math.h>
#include <string.h>

#include "lua.h"

#include "ldebug.h"
#include "lgc.h"
#include "lobject.h"
#include "lstate.h"
#include "lstring.h"
#include "kaoslua.h"

#if defined(_MSC_VER)
#define KAOS_TLS	__declspec(thread)
#else
#define KAOS_TLS	_Thread_local
#endif

/* one debt is never larger, so that an account of 64 bits cannot wrap around */
#define MAXCHARGE	((lua_Unsigned)1 << 40)

static KAOS_TLS lua_Unsigned next_seed = 0;


LUA_API void kaoslua_nextseed (lua_Unsigned seed) {
  next_seed = seed;
}


void kaos_initstate (global_State *g) {
  g->seed64 = kaos_mix(next_seed + 0x9e3779b97f4a7c15ULL);
  next_seed = 0;
  g->seed = (unsigned int)(g->seed64 >> 32);
  g->draws = 0;
  g->lastid = 0;
  g->mainthread->id = 0;
  g->fuel = LUA_MAXINTEGER;
  g->fuelhook = NULL;
  g->fueltold = 0;
  g->emergency = 0;
  g->gcwork = 0;
}


LUA_API void kaoslua_setfuel (lua_State *L, lua_Integer fuel) {
  global_State *g = G(L);
  g->fuel = fuel;
  g->fueltold = 0;
  g->emergency = 0;
}


LUA_API lua_Integer kaoslua_getfuel (lua_State *L) {
  return G(L)->fuel;
}


LUA_API lua_Integer kaoslua_getemergency (lua_State *L) {
  return G(L)->emergency;
}


LUA_API void kaoslua_setfuelhook (lua_State *L, kaoslua_Hook hook) {
  G(L)->fuelhook = hook;
}


LUA_API void kaoslua_owe (lua_State *L, lua_Unsigned n) {
  kaos_owe(L, n > MAXCHARGE ? MAXCHARGE : n);
}


LUA_API void kaoslua_charge (lua_State *L, lua_Unsigned n) {
  global_State *g = G(L);
  if (l_unlikely(g->fuel < 0 || n > (lua_Unsigned)g->fuel)) {
    if (g->fuel >= 0)
      g->fuel = -1;  /* what was asked for is not done, so it is not owed */
    kaos_fuelerror(L);
  }
  g->fuel -= (lua_Integer)n;
}


lua_Unsigned kaos_idof (const GCObject *o) {
  switch (o->tt) {
    case LUA_VTABLE: return gco2t(o)->id;
    case LUA_VLCL: return gco2lcl(o)->id;
    case LUA_VCCL: return gco2ccl(o)->id;
    case LUA_VUSERDATA: return gco2u(o)->id;
    case LUA_VTHREAD: return gco2th(o)->id;
    default: return 0;  /* nothing else is ever a key */
  }
}


LUA_API lua_Unsigned kaoslua_draw (lua_State *L) {
  global_State *g = G(L);
  return kaos_mix(g->seed64 + ++g->draws * 0x9e3779b97f4a7c15ULL);
}


unsigned int kaos_mixseed (unsigned int seed, unsigned int id) {
  return (unsigned int)kaos_mix(((lua_Unsigned)seed << 32) | id);
}


lua_Unsigned kaos_floatbits (lua_Number n) {
  lua_Unsigned u;
  memcpy(&u, &n, sizeof(u));
  return u;
}


int kaos_textcost (const TValue *o) {
  int e;
  if (ttisinteger(o)) return 4;
  (void)l_mathop(frexp)(fltvalue(o), &e);
  return 8 + ((e < 0 ? -e : e) >> 5);
}


/* distance inside the image: the same in every process that runs this binary */
lua_Unsigned kaos_codeplace (lua_CFunction f) {
  return (lua_Unsigned)((size_t)f - (size_t)&kaoslua_nextseed);
}


lua_Unsigned kaos_dataplace (const void *p) {
  size_t n = (size_t)p;
  return (lua_Unsigned)(n < 65536 ? n : n - (size_t)&kaoslua_nextseed);
}


#define rotl(x,n)	(((x) << (n)) | ((x) >> (64 - (n))))
#define sipround()	( \
  v0 += v1, v1 = rotl(v1, 13), v1 ^= v0, v0 = rotl(v0, 32), \
  v2 += v3, v3 = rotl(v3, 16), v3 ^= v2, \
  v0 += v3, v3 = rotl(v3, 21), v3 ^= v0, \
  v2 += v1, v1 = rotl(v1, 17), v1 ^= v2, v2 = rotl(v2, 32))

/*
** SipHash-1-3 of a string, with a key made from the seed; the words are read in the order of the machine.
*/
unsigned int kaos_siphash (const char *str, size_t l, unsigned int seed) {
  lua_Unsigned k0 = (seed + 1ULL) * 0x9e3779b97f4a7c15ULL;
  lua_Unsigned k1 = (seed + 1ULL) * 0xc4ceb9fe1a85ec53ULL;
  lua_Unsigned v0 = k0 ^ 0x736f6d6570736575ULL, v1 = k1 ^ 0x646f72616e646f6dULL;
  lua_Unsigned v2 = k0 ^ 0x6c7967656e657261ULL, v3 = k1 ^ 0x7465646279746573ULL;
  lua_Unsigned w = 0;
  size_t n = l;
  for (; n >= 8; n -= 8, str += 8) {
    memcpy(&w, str, 8);
    v3 ^= w; sipround(); v0 ^= w;
  }
  w = (lua_Unsigned)l << 56;
  for (; n > 0; n--)
    w |= (lua_Unsigned)(unsigned char)str[n - 1] << (8 * (n - 1));
  v3 ^= w; sipround(); v0 ^= w;
  v2 ^= 0xff;
  sipround(); sipround(); sipround();
  w = v0 ^ v1 ^ v2 ^ v3;
  return (unsigned int)(w ^ (w >> 32));
}


/*
** Order of two strings by their bytes, like 'strcmp' in the C locale but past zeros.
*/
int kaos_strcmp (lua_State *L, const TString *a, const TString *b) {
  size_t la = tsslen(a), lb = tsslen(b);
  size_t l = la < lb ? la : lb;
  int order;
  if (l > 64)
    kaos_charge(L, l >> 6);
  order = memcmp(getstr(a), getstr(b), l);
  if (order != 0) return order;
  return la < lb ? -1 : (la > lb);
}
