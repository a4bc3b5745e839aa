"""Queries over the tables of TPC-H, made from a seed: of every kind that is split between sites, and of those that aren't."""

import random

COLUMNS = {
    "lineitem": {
        "int": ["l_orderkey", "l_partkey", "l_suppkey", "l_linenumber"],
        "decimal": ["l_quantity", "l_extendedprice", "l_discount", "l_tax"],
        "date": ["l_shipdate", "l_commitdate", "l_receiptdate"],
        "few": ["l_returnflag", "l_linestatus", "l_shipmode", "l_shipinstruct", "l_linenumber"],
        "text": ["l_comment", "l_shipmode"],
        "unique": ["l_orderkey", "l_linenumber"],
    },
    "orders": {
        "int": ["o_orderkey", "o_custkey"],
        "decimal": ["o_totalprice"],
        "date": ["o_orderdate"],
        "few": ["o_orderstatus", "o_orderpriority"],
        "text": ["o_comment", "o_clerk"],
        "unique": ["o_orderkey"],
    },
    "customer": {
        "int": ["c_custkey", "c_nationkey"],
        "decimal": ["c_acctbal"],
        "date": [],
        "few": ["c_mktsegment", "c_nationkey"],
        "text": ["c_name", "c_phone"],
        "unique": ["c_custkey"],
    },
    "part": {
        "int": ["p_partkey", "p_size"],
        "decimal": ["p_retailprice"],
        "date": [],
        "few": ["p_mfgr", "p_container"],
        "text": ["p_name", "p_type"],
        "unique": ["p_partkey"],
    },
    "supplier": {
        "int": ["s_suppkey", "s_nationkey"],
        "decimal": ["s_acctbal"],
        "date": [],
        "few": ["s_nationkey"],
        "text": ["s_name", "s_phone"],
        "unique": ["s_suppkey"],
    },
    "nation": {
        "int": ["n_nationkey", "n_regionkey"],
        "decimal": [],
        "date": [],
        "few": ["n_regionkey"],
        "text": ["n_name"],
        "unique": ["n_nationkey"],
    },
}
JOINS = [
    ("lineitem", "orders", "l_orderkey = o_orderkey"),
    ("orders", "customer", "o_custkey = c_custkey"),
    ("lineitem", "part", "l_partkey = p_partkey"),
    ("lineitem", "supplier", "l_suppkey = s_suppkey"),
    ("customer", "nation", "c_nationkey = n_nationkey"),
    ("supplier", "nation", "s_nationkey = n_nationkey"),
]


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, values: list[str]) -> str:
        return self.random.choice(values)

    def condition(self, table: str) -> str:
        columns, pick = COLUMNS[table], self.random
        kind = pick.choice(["int", "int", "decimal", "date", "few", "text", "sum", "case", "and", "or", "not", "null", "double", "same"])
        if kind in {"and", "or"}:
            return f"({self.condition(table)} {kind.upper()} {self.condition(table)})"
        if kind == "same":
            other = pick.choice([f"= ({self.condition(table)})", "IS TRUE", "IS NOT FALSE", f"<> ({self.condition(table)})"])
            return f"({self.condition(table)}) {other}"
        if kind == "not":
            return f"NOT ({self.condition(table)})"
        if kind == "null":
            return f"{self.one(columns['int'])} IS NOT NULL"
        sign = pick.choice(["<", "<=", ">", ">=", "=", "<>"])
        if kind == "decimal" and columns["decimal"]:
            return f"{self.one(columns['decimal'])} {sign} {pick.randint(0, 300000) / 100}"
        if kind == "date" and columns["date"]:
            return f"{self.one(columns['date'])} {sign} DATE '{pick.randint(1992, 1998)}-{pick.randint(1, 12):02}-{pick.randint(1, 28):02}'"
        if kind == "few":
            values = ", ".join(f"'{self.one(['R', 'A', 'N', 'F', 'O', 'AIR', 'MAIL', 'BUILDING', 'P', '1-URGENT'])}'" for _ in range(3))
            return f"CAST({self.one(columns['few'])} AS VARCHAR) {self.one(['IN', 'NOT IN'])} ({values})"
        if kind == "text":
            return pick.choice(
                [
                    f"{self.one(columns['text'])} LIKE '%{self.one(['a', 'e', 'ir', '7', 'Cust', 'special'])}%'",
                    f"{self.one(columns['text'])} > '{self.one(['C', 'M', 'f', '2'])}'",
                    f"substr({self.one(columns['text'])}, 1, 2) = '{self.one(['Cu', 'al', '11', 'AI'])}'",
                ]
            )
        if kind == "sum":
            return f"{self.one(columns['int'])} + {self.one(columns['int'])} {sign} {pick.randint(0, 60000)}"
        if kind == "case":
            return f"CASE WHEN {self.one(columns['int'])} % 3 = 0 THEN 1 ELSE {self.one(columns['int'])} % 2 END = {pick.randint(0, 1)}"
        if kind == "double":
            return f"sqrt(CAST({self.one(columns['int'])} AS DOUBLE)) {sign} {pick.randint(0, 250) + 0.5}"
        return f"{self.one(columns['int'])} {sign} {pick.randint(0, 60000)}"

    def where(self, *tables: str) -> str:
        conditions = [self.condition(table) for table in tables if self.random.random() < 0.6]
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def aggregate(self, tables: tuple[str, ...]) -> str:
        table = self.one(list(tables))
        columns, pick = COLUMNS[table], self.random
        number = self.one(columns["decimal"] or columns["int"])
        double = f"CAST({number} + 1 AS DOUBLE)"
        any_column = self.one(columns["int"] + columns["date"] + columns["text"] + columns["decimal"])
        text = pick.choice(
            [
                "count(*)",
                f"count({any_column})",
                f"sum({number})",
                f"sum({self.one(columns['int'])})",
                f"min({any_column})",
                f"max({any_column})",
                f"avg({number})",
                f"avg({self.one(columns['int'])})",
                f"avg({double})",
                f"stddev({double})",
                f"var_pop({double})",
                f"stddev_pop({self.one(columns['int'])})",
                f"covar_samp({double}, CAST({self.one(columns['int'])} AS DOUBLE))",
                f"corr({double}, CAST({self.one(columns['int'])} AS DOUBLE))",
                f"count(DISTINCT {self.one(columns['few'])})",
                f"sum({number} * {number})",
                f"bool_or({self.condition(table)})",
                f"bit_xor({self.one(columns['int'])})",
            ]
        )
        return f"{text} FILTER (WHERE {self.condition(table)})" if pick.random() < 0.15 else text

    def groups(self, source: str, tables: tuple[str, ...], where: str) -> str:
        keys = list(dict.fromkeys(self.one(COLUMNS[self.one(list(tables))]["few"]) for _ in range(self.random.choice([0, 1, 1, 2]))))
        if keys and self.random.random() < 0.3:
            dates = [column for table in tables for column in COLUMNS[table]["date"]]
            keys[0] = f"date_part('year', {self.one(dates)})" if dates else f"{keys[0]}"
        functions = [self.aggregate(tables) for _ in range(self.random.randint(1, 4))]
        columns = [f"{text} AS x{place}" for place, text in enumerate(keys + functions)]
        query = f"SELECT {', '.join(columns)} FROM {source}{where}"
        if keys:
            query += f" GROUP BY {', '.join(keys)}"
            if self.random.random() < 0.3:
                query += f" HAVING count(*) > {self.random.randint(0, 200)}"
        return query

    def query(self) -> str:
        pick = self.random
        table = self.one(list(COLUMNS))
        columns = COLUMNS[table]
        named = columns["int"] + columns["decimal"] + columns["date"] + columns["text"]
        kind = pick.choice(["groups", "groups", "groups", "top", "rows", "distinct", "join", "join", "outer", "in", "exists", "nested", "count", "scalars", "shadowed", "union"])
        if kind == "groups":
            return self.groups(table, (table,), self.where(table))
        if kind == "top":
            order = f"{self.one(named)} {self.one(['ASC', 'DESC'])}, " + ", ".join(columns["unique"])
            skip = f" OFFSET {pick.randint(1, 20)}" if pick.random() < 0.3 else ""
            return f"SELECT {', '.join(columns['unique'])}, {self.one(named)} FROM {table}{self.where(table)} ORDER BY {order} LIMIT {pick.randint(1, 50)}{skip}"
        if kind == "rows":
            text = f"{self.one(columns['int'])} * 2 + 1, upper({self.one(columns['text'])}), {self.one(named)}"
            return f"SELECT {text} FROM {table} WHERE {self.condition(table)}"
        if kind == "distinct":
            return f"SELECT DISTINCT {self.one(columns['few'])}, {self.one(columns['few'])} AS other FROM {table}{self.where(table)}"
        if kind == "scalars":
            asked = [f"(SELECT {self.aggregate((table,))} FROM {table}{self.where(table)}) AS x{place}" for place in range(pick.randint(2, 3))]
            return f"SELECT {', '.join(asked)}"
        if kind == "shadowed":
            # Each column is called like another.
            one, other = (pick.sample(columns["int"], 2) * 2)[:2] if len(columns["int"]) > 1 else (columns["unique"][0],) * 2
            if one == other:
                return f"SELECT -{one} AS {one} FROM {table}{self.where(table)} ORDER BY {one} LIMIT {pick.randint(1, 30)}"
            shown = f"SELECT {one} AS {other}, {other} * 2 AS {one} FROM {table}{self.where(table)}"
            return f"{shown} ORDER BY {one} {self.one(['ASC', 'DESC'])}, {other} LIMIT {pick.randint(1, 30)}"
        if kind == "union":
            of = self.one(columns["few"])
            halves = [f"SELECT CAST({of} AS VARCHAR) AS k, count(*) AS n FROM {table}{self.where(table)} GROUP BY {of}" for _ in range(2)]
            both = f" {self.one(['UNION ALL', 'UNION'])} ".join(halves)
            return f"SELECT k, sum(n) FROM ({both}) t GROUP BY k"
        if kind == "count":
            return f"SELECT count(*) FROM (SELECT {self.one(named)} FROM {table}{self.where(table)} GROUP BY 1) t"
        if kind == "nested":
            inner = f"SELECT {self.one(columns['few'])} AS k, {', '.join(columns['unique'])}, {self.one(columns['int'])} AS n FROM {table}"
            top = f"{inner} ORDER BY {', '.join(columns['unique'])} LIMIT {pick.randint(1, 100)}"
            return f"SELECT k, count(*), sum(n) FROM ({top}) t WHERE n % 2 = 0 GROUP BY k"
        left, right, on = pick.choice(JOINS)
        if kind == "join":
            return self.groups(f"{left} JOIN {right} ON {on}", (left, right), self.where(left, right))
        if kind == "outer":
            side = self.one(["LEFT", "RIGHT", "FULL"])
            return self.groups(f"{left} {side} JOIN {right} ON {on} AND {self.condition(right)}", (left, right), self.where(left))
        key, other = on.split(" = ")
        if kind == "in":
            return self.groups(left, (left,), f" WHERE {key} {self.one(['IN', 'NOT IN'])} (SELECT {other} FROM {right}{self.where(right)})")
        inner = self.condition(right)
        return self.groups(left, (left,), f" WHERE {self.one(['', 'NOT '])}EXISTS (SELECT 1 FROM {right} WHERE {on} AND {inner})")
