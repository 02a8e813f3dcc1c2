"""The sections of the schema, a file each."""
