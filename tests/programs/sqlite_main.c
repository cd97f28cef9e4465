/* sqlite_main ROWS: builds tables in memory, fills them in one transaction, asks questions and prints the answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite3.h"

static sqlite3 *db;

static void must(int code, const char *what) {
  if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW) return;
  printf("%s: %s\n", what, sqlite3_errmsg(db));
  fflush(stdout);
  exit(3);
}

static void run(const char *sql) { must(sqlite3_exec(db, sql, NULL, NULL, NULL), sql); }

static sqlite3_stmt *prepare(const char *sql) {
  sqlite3_stmt *statement;
  must(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), sql);
  return statement;
}

static void ask(const char *title, const char *sql) {
  sqlite3_stmt *statement = prepare(sql);
  int code;
  printf("-- %s\n", title);
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    for (int i = 0; i < sqlite3_column_count(statement); i++) {
      const unsigned char *value = sqlite3_column_text(statement, i);
      printf("%s%s", i ? " | " : "", value ? (const char *)value : "NULL");
    }
    putchar('\n');
  }
  must(code, sql);
  must(sqlite3_finalize(statement), sql);
}

/* A function of the program that SQL calls: the library calls back into us. */
static void letters(sqlite3_context *context, int count, sqlite3_value **values) {
  const unsigned char *text = sqlite3_value_text(values[0]);
  int found = 0;
  (void)count;
  for (; text && *text; text++) found += *text >= 'a' && *text <= 'z';
  sqlite3_result_int(context, found);
}

static void fill(int rows) {
  static const char *const towns[] = {"Aachen", "Bergen", "Cadiz", "Delft", "Espoo", "Faro", "Ghent"};
  sqlite3_stmt *customer = prepare("insert into customer values (?, ?, ?)");
  sqlite3_stmt *sale = prepare("insert into sale(customer, cents, note) values (?, ?, ?)");
  unsigned state = 7;
  char text[64];

  run("begin");
  for (int i = 1; i <= rows / 10 + 3; i++) {
    snprintf(text, sizeof text, "customer %04d", i * 37 % 9973);
    sqlite3_bind_int(customer, 1, i);
    sqlite3_bind_text(customer, 2, text, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(customer, 3, towns[i * 11 % 7], -1, SQLITE_STATIC);
    must(sqlite3_step(customer), "customer");
    sqlite3_reset(customer);
  }
  for (int i = 0; i < rows; i++) {
    state = state * 1103515245u + 12345u;
    snprintf(text, sizeof text, "order %x for %s", state >> 20, towns[(state >> 9) % 7]);
    sqlite3_bind_int(sale, 1, 1 + (int)((state >> 8) % (unsigned)(rows / 10)));
    sqlite3_bind_int(sale, 2, (int)((state >> 16) % 90000u));
    if (i % 13) sqlite3_bind_text(sale, 3, text, -1, SQLITE_TRANSIENT);
    else sqlite3_bind_null(sale, 3);
    must(sqlite3_step(sale), "sale");
    sqlite3_reset(sale);
  }
  run("commit");
  sqlite3_finalize(customer);
  sqlite3_finalize(sale);
}

int main(int argc, char **argv) {
  int rows = argc > 1 ? atoi(argv[1]) : 20000;

  if (rows < 100) {
    puts("at least 100 rows, please");
    return 2;
  }
  printf("SQLite %s, %d rows\n", sqlite3_libversion(), rows);
  must(sqlite3_open(":memory:", &db), "open");
  must(sqlite3_create_function(db, "letters", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, letters, NULL, NULL), "letters");
  run("create table customer(id integer primary key, name text not null, town text);"
      "create table sale(id integer primary key, customer int references customer, cents int, note text)");
  fill(rows);
  run("create index sale_by_customer on sale(customer, cents);"
      "create index sale_by_note on sale(note) where note is not null;"
      "analyze");

  ask("totals", "select count(*), sum(cents), min(cents), max(cents), round(avg(cents), 3), total(letters(note)) from sale");
  ask("join", "select town, count(*), sum(cents), count(distinct customer) from sale join customer c on c.id = customer "
              "group by town having count(*) > 1 order by 3 desc");
  ask("best", "select name, (select max(cents) from sale where customer = c.id) as best from customer c order by best desc, name limit 5");
  ask("without a sale", "select count(*) from customer c left join sale s on s.customer = c.id where s.id is null");
  ask("window", "select town, name, spent, rank() over (partition by town order by spent desc, name) as place from "
                "(select town, name, sum(cents) as spent from sale join customer c on c.id = customer group by c.id) "
                "order by place, town limit 7");
  ask("recursive", "with recursive f(n, a, b) as (values(1, 0, 1) union all select n + 1, b, a + b from f where n < 60) "
                   "select n, a from f where n % 15 = 0");
  ask("text", "select upper(substr(note, 1, 9)), length(note), hex(substr(note, -3)), printf('%08.2f', cents / 100.0), "
              "replace(note, 'order', 'sale') from sale where note like 'order f%ghent' order by id limit 3");
  ask("numbers", "select sqrt(2), pow(2, 0.5), round(ln(10), 12), 7 / 2, 7 % -3, 1e308 * 10, 9223372036854775807 + 1, "
                 "cast('12abc' as int), typeof(1.0), 3 between 1 and 5");
  ask("json", "select json_extract('{\"a\":[1,{\"b\":\"deep\"}]}', '$.a[1].b'), json_group_array(id) from customer where id < 5");
  run("create virtual table notes using fts5(body); insert into notes select note from sale where note is not null and id < 2000");
  ask("full text", "select count(*), min(rowid), max(rowid) from notes where notes match 'delft OR faro'");
  run("create virtual table place using rtree(id, x0, x1, y0, y1);"
      "insert into place select id, id % 100, id % 100 + 2, id / 100, id / 100 + 2 from customer");
  ask("boxes", "select count(*), sum(id) from place where x0 > 10 and x1 < 30 and y1 < 5");

  run("begin; update sale set cents = cents + 1 where customer % 5 = 0; savepoint s; delete from sale where id % 2; rollback to s; commit");
  ask("after the update", "select count(*), sum(cents) from sale");
  ask("plan", "explain query plan select * from sale where customer = 3 and cents > 100");
  printf("-- refused: %s\n", sqlite3_exec(db, "insert into customer values (1, null, null)", NULL, NULL, NULL) ? sqlite3_errmsg(db) : "nothing");
  ask("check", "pragma integrity_check");

  must(sqlite3_close(db), "close");
  printf("%lld bytes still allocated\n", (long long)sqlite3_memory_used());
  fflush(stdout);
  return 23;
}
