"""A run compared with earlier ones: the stages, explaining again for the reference's class, and the tables' rows."""
