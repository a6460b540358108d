"""Is an explanation faithful, stable, plausible? Methods of many kinds measured on the same documents and targets."""
