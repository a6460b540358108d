"""Where a warehouse that is not a plain folder lies: stores of objects, who may change them, and what is in force.

- `store`: what every store can do (`Store`), and how one is opened by its URL (`open_store`).
- `local`, `object_store`: a folder; S3, GCS and Azure.
- `lease`: one writer at a time, by compare-and-set on one object, `CURRENT`.
- `catalog`: which objects are in force: `CURRENT` names an index, which names a list for each unit of the warehouse.
"""
