"""What each process shows of itself: metrics, traces, logs, and the port that serves them."""
