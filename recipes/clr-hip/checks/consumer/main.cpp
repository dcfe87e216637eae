// Ask the runtime for its version and its devices, as an application does that was built with CMake.
#include <hip/hip_runtime.h>

#include <cstdio>

int main() {
  int version = 0, devices = 0;
  const hipError_t asked = hipRuntimeGetVersion(&version);
  const hipError_t counted = hipGetDeviceCount(&devices);
  std::printf("hipRuntimeGetVersion: %s, version %d\n", hipGetErrorName(asked), version);
  std::printf("hipGetDeviceCount: %s, %d devices\n", hipGetErrorName(counted), devices);
  const bool right = counted == hipSuccess || counted == hipErrorNoDevice;
  return right && (asked == hipSuccess || asked == hipErrorNoDevice) ? 0 : 1;
}
