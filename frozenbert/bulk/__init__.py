"""Many texts: tables to vectors in a stream, and on Dask."""
