"""Writers of tables, pages, notebooks and pictures, and checks before publishing."""
