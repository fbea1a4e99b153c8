"""How every study is run: jobs, training runs, measures, statistics, tables, plots and page."""
