"""What the library costs, always beside what it is compared with. `make bench` runs it."""
