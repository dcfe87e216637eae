// Add two vectors on the GPU and compare with the sum computed here. Without a GPU the right answer of
// every call is hipErrorNoDevice: the program was linked, the runtime was loaded and looked for devices.
#include <hip/hip_runtime.h>

#include <cstdio>
#include <vector>

__global__ void add(const float *a, const float *b, float *sum, int length) {
  int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index < length) sum[index] = a[index] + b[index];
}

static bool failed(hipError_t status, const char *call) {
  if (status != hipSuccess) std::printf("%s: %s (%d)\n", call, hipGetErrorName(status), status);
  return status != hipSuccess;
}

static bool run(int length) {
  const size_t size = length * sizeof(float);
  std::vector<float> a(length), b(length), sum(length);
  for (int i = 0; i < length; ++i) {
    a[i] = i;
    b[i] = 2 * i;
  }
  float *memory = nullptr;
  if (failed(hipMalloc(reinterpret_cast<void **>(&memory), 3 * size), "hipMalloc")) return false;
  float *first = memory, *second = memory + length, *result = memory + 2 * length;
  if (failed(hipMemcpy(first, a.data(), size, hipMemcpyHostToDevice), "hipMemcpy to the device")) return false;
  if (failed(hipMemcpy(second, b.data(), size, hipMemcpyHostToDevice), "hipMemcpy to the device")) return false;
  add<<<(length + 255) / 256, 256>>>(first, second, result, length);
  if (failed(hipGetLastError(), "kernel launch")) return false;
  if (failed(hipMemcpy(sum.data(), result, size, hipMemcpyDeviceToHost), "hipMemcpy from the device")) return false;
  if (failed(hipFree(memory), "hipFree")) return false;
  for (int i = 0; i < length; ++i) {
    if (sum[i] != a[i] + b[i]) {
      std::printf("element %d is %g instead of %g\n", i, sum[i], a[i] + b[i]);
      return false;
    }
  }
  return true;
}

int main() {
  int devices = 0;
  const hipError_t status = hipGetDeviceCount(&devices);
  if (status == hipErrorNoDevice) {
    std::printf("hipErrorNoDevice (%d): right on a machine without an AMD GPU\n", status);
    return 0;
  }
  if (failed(status, "hipGetDeviceCount")) return 1;
  if (!run(100003)) return 1;
  std::printf("vector-add is right, on 1 of %d devices\n", devices);
  return 0;
}
