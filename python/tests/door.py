"""The Python door of the tests in Rust: asks a lake, or the server at an address; reads a line of JSON with SQL, writes a line with the result as an Arrow stream in base64."""

import base64
import io
import json
import sys

import pyarrow as pa

import lacus

lake = lacus.connect(sys.argv[1]) if sys.argv[1].startswith("grpc") else lacus.open(sys.argv[1])
for line in sys.stdin:
    try:
        table = lake.sql(json.loads(line)["sql"]).to_arrow()
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        answer = {"arrow": base64.b64encode(sink.getvalue()).decode()}
    except lacus.Error as error:
        answer = {"error": str(error), "code": error.code}
    print(json.dumps(answer), flush=True)
