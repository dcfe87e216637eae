/* List the OpenCL platforms that the loader finds; AMD's must be one of them, also without a GPU. */
#define CL_TARGET_OPENCL_VERSION 200
#include <CL/cl.h>
#include <stdio.h>
#include <string.h>

static const char wanted[] = "AMD Accelerated Parallel Processing";

int main(void) {
  cl_platform_id platforms[16];
  cl_uint count = 0;
  cl_int status = clGetPlatformIDs(16, platforms, &count);
  printf("clGetPlatformIDs: %d, %u platforms\n", status, count);
  if (status != CL_SUCCESS) {
    return 1;
  }
  int found = 0;
  for (cl_uint i = 0; i < count && i < 16; ++i) {
    char name[256] = "", version[256] = "";
    clGetPlatformInfo(platforms[i], CL_PLATFORM_NAME, sizeof name - 1, name, NULL);
    clGetPlatformInfo(platforms[i], CL_PLATFORM_VERSION, sizeof version - 1, version, NULL);
    cl_uint devices = 0;
    status = clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, 0, NULL, &devices);
    printf("platform %s, %s: %u devices (%d)\n", name, version, devices, status);
    found |= strcmp(name, wanted) == 0;
  }
  if (!found) {
    printf("no platform is named %s\n", wanted);
  }
  return found ? 0 : 1;
}
