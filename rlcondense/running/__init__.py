"""Running cells of the comparison and keeping what they gave."""
