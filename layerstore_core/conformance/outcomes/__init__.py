"""What came of the tests: results, failures, declared limits, and the recorder that collects them."""
