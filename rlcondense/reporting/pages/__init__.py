"""The kinds of pages of the site: what each shows, computed from the board."""
