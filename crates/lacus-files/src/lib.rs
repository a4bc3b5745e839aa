//! Parquet, CSV, JSON lines and Arrow IPC files as tables, through the readers of DataFusion.
