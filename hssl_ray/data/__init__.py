"""Image data sets as Parquet with a manifest, and as memory-mapped Arrow files."""
