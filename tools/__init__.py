"""What writes tables, pages, notebooks and pictures, and checks what is published."""
