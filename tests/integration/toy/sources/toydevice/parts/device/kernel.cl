kernel void add(global int *a) { a[0] += 1; }
