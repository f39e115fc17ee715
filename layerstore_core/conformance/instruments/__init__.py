"""What the kit looks at a driver with: its home, its steps one by one, small disks, its processes."""
