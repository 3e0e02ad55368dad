"""The papers' data sets: downloaded, extracted, read, counted and cut to the papers' protocols."""
