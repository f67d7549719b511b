/*
** Charging macros for Lua's core. Included at the end of lstate.h.
*/
#ifndef kaoscore_h
#define kaoscore_h

LUAI_FUNC l_noret kaos_fuelerror (lua_State *L);
LUAI_FUNC void kaos_initstate (global_State *g);
LUAI_FUNC int kaos_strcmp (lua_State *L, const TString *a, const TString *b);
LUAI_FUNC lua_Unsigned kaos_floatbits (lua_Number n);
LUAI_FUNC lua_Unsigned kaos_codeplace (lua_CFunction f);
LUAI_FUNC lua_Unsigned kaos_dataplace (const void *p);
LUAI_FUNC lua_Unsigned kaos_idof (const GCObject *o);
LUAI_FUNC unsigned int kaos_siphash (const char *str, size_t l, unsigned int seed);
LUAI_FUNC unsigned int kaos_mixseed (unsigned int seed, unsigned int id);

/* take 'n' where nothing may be raised; 'n' is bounded by what fits in memory */
#define kaos_owe(L,n)	((void)(G(L)->fuel -= (lua_Integer)(n)))

/* take 'n' where an error may be raised and 'savedpc' is right */
#define kaos_charge(L,n)  \
	(l_unlikely((G(L)->fuel -= (lua_Integer)(n)) < 0) ? kaos_fuelerror(L) : (void)0)

/* the same inside 'luaV_execute' */
#define kaos_vmcharge(n)  \
	{ if (l_unlikely((G(L)->fuel -= (lua_Integer)(n)) < 0)) { \
	    savestate(L, ci); kaos_fuelerror(L); } }

/*
** A walk over nodes of a table or a list of strings: 1 for each 4 steps. It starts when a lookup leaves its
** first node, so most lookups pay nothing, and keys that a script made collide cost what they take.
*/
#define kaos_step(L,steps)	((void)((++(steps) & 3) == 0 && (kaos_owe(L, 1), 1)))

/* a key that is a long string costs its comparison */
#define kaos_chargekey(L,o)  \
	(l_unlikely(ttislngstring(o)) ? kaos_charge(L, 1 + (tsvalue(o)->u.lnglen >> 6)) : (void)0)
#define kaos_owekey(L,o)  \
	(l_unlikely(ttislngstring(o)) ? kaos_owe(L, 1 + (tsvalue(o)->u.lnglen >> 6)) : (void)0)
#define kaos_longkey(o)  \
	(l_unlikely(ttislngstring(o)) ? (savestate(L, ci), kaos_chargekey(L, o)) : (void)0)
#define kaos_vmkey(o)	{ if (l_unlikely(ttislngstring(o))) { \
	    savestate(L, ci); kaos_chargekey(L, o); } }

/* a collection costs 1 for each 2 slots that it visits or objects that it sweeps, and 3 for each that it frees */
#define KAOS_GCSHIFT	1

/* what it costs to read a number from a string, which is no number at all when it is long */
#define kaos_numeralcost(o)	(2 + ((tsslen(tsvalue(o)) > KAOSLUA_MAXNUMERAL) ? 0 : tsslen(tsvalue(o)) >> 3))

/* what it costs to write a number: digits far from the point take long */
LUAI_FUNC int kaos_textcost (const TValue *o);

/*
** Main position of a number or an object number 'u' in the hash part of 't': a full mix with the
** table's secret, so that no set of keys collides in every table.
*/
l_sinline lua_Unsigned kaos_mix (lua_Unsigned x) {
  x ^= x >> 33; x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33; x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

#define kaos_node(t,u)  \
	hashpow2(t, kaos_mix((u) ^ ((lua_Unsigned)(t)->hseed * 0x9e3779b97f4a7c15ULL)))

#endif
