"""Records: their cells, schema, reading and storage."""
