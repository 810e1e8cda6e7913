"""What a detector costs: parameters, multiply-adds, time; and tables to show it in."""
