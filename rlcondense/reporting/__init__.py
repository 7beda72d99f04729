"""Reports on records: the board, tables, charts, pictures and the site."""
