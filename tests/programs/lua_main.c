/* Runs one Lua script: lua_main SCRIPT [ARGUMENT...]. The status is the script's, or 3 if it raised an error. */
#include <stdio.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static int with_traceback(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

int main(int argc, char **argv) {
  lua_State *L;
  int status;

  if (argc < 2) {
    fputs("usage: lua_main SCRIPT [ARGUMENT...]\n", stderr);
    return 2;
  }
  L = luaL_newstate();
  if (L == NULL) {
    fputs("no memory for a Lua state\n", stderr);
    return 2;
  }
  luaL_openlibs(L);
  lua_createtable(L, argc - 2, 1);
  for (int i = 1; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - 1);
  }
  lua_setglobal(L, "arg");

  lua_pushcfunction(L, with_traceback);
  if (luaL_loadfile(L, argv[1]) != LUA_OK || lua_pcall(L, 0, 1, 1) != LUA_OK) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    status = 3;
  } else {
    status = (int)lua_tointeger(L, -1);
  }
  lua_close(L);
  fflush(stdout);
  return status;
}
