//! SQL in, one stream out: the engine, its catalog, its limits and its queries.
