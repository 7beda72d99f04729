"""The comparison of records: rows, columns and tables."""
