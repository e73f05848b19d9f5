"""Bytes too large for the database: files, inputs, outputs. A folder, or an S3 bucket, behind one class.

The only place that knows obstore (docs/decisions/010). Keys are made by us, never from what a caller wrote: no path
of a renter or a node ever becomes part of one.
"""
