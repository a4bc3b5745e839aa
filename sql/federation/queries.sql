-- What benches/federation.py asks over three sites: q01 and q06 of TPC-H, and ten aggregates and first rows, each of under 10,000 groups.

-- q01
select l_returnflag, l_linestatus, sum(l_quantity) as sum_qty, sum(l_extendedprice) as sum_base_price,
  sum(l_extendedprice * (1 - l_discount)) as sum_disc_price, sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) as sum_charge,
  avg(l_quantity) as avg_qty, avg(l_extendedprice) as avg_price, avg(l_discount) as avg_disc, count(*) as count_order
from lineitem where l_shipdate <= date '1998-12-01' - interval '90' day
group by l_returnflag, l_linestatus order by l_returnflag, l_linestatus;

-- q06
select sum(l_extendedprice * l_discount) as revenue from lineitem
where l_shipdate >= date '1994-01-01' and l_shipdate < date '1995-01-01' and l_discount between 0.05 and 0.07 and l_quantity < 24;

-- count
select count(*) from orders;

-- by month
select date_trunc('month', o_orderdate) as month, count(*), sum(o_totalprice) from orders group by 1;

-- distinct
select distinct l_shipmode, l_shipinstruct from lineitem;

-- spread of prices
select l_returnflag, stddev(cast(l_extendedprice as double)), var_pop(cast(l_discount as double)) from lineitem group by l_returnflag;

-- correlation
select corr(cast(l_quantity as double), cast(l_extendedprice as double)) from lineitem;

-- dearest
select o_orderkey, o_custkey, o_totalprice from orders order by o_totalprice desc, o_orderkey limit 20;

-- latest
select l_orderkey, l_linenumber, l_shipdate from lineitem where l_shipmode = 'AIR' order by l_shipdate desc, l_orderkey, l_linenumber limit 100;

-- by site
select site, median(c_acctbal), count(distinct c_nationkey) from customer group by site;

-- suppliers
select l_suppkey, sum(l_quantity), max(l_shipdate) from lineitem where l_suppkey < 5000 group by l_suppkey;

-- large orders
select c_mktsegment, count(*) from customer where c_acctbal > 9000 group by c_mktsegment having count(*) > 10;
