"""Lists of experiments: run with seeds, resumed where they were cut, put into tables and curves."""
