"""The history of the tables. Each change of store/tables.py adds a file to versions/."""
