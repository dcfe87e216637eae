// Compile a kernel at run time for the GPU target named by the argument, and write the code object to a file if
// there is another one. That takes no GPU, but all of the compiler: comgr, LLVM inside of it, the device libraries
// and HIP's embedded headers.
#include <hip/hiprtc.h>

#include <cstdio>
#include <string>
#include <vector>

static const char source[] = R"(
extern "C" __global__ void wave(float *x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] = sinf(x[i]) + __shfl(x[i], 0);
}
)";

static bool failed(hiprtcResult status, const char *call) {
  if (status != HIPRTC_SUCCESS) std::printf("%s: %s\n", call, hiprtcGetErrorString(status));
  return status != HIPRTC_SUCCESS;
}

static bool written(const char *path, const std::vector<char> &code) {
  std::FILE *file = std::fopen(path, "wb");
  if (file == nullptr) return false;
  const size_t count = std::fwrite(code.data(), 1, code.size(), file);
  return std::fclose(file) == 0 && count == code.size();
}

static void print_log(hiprtcProgram program) {
  size_t size = 0;
  if (hiprtcGetProgramLogSize(program, &size) != HIPRTC_SUCCESS || size == 0) return;
  std::vector<char> log(size + 1);
  if (hiprtcGetProgramLog(program, log.data()) == HIPRTC_SUCCESS) std::printf("%s\n", log.data());
}

int main(int argc, char **argv) {
  if (argc != 2 && argc != 3) {
    std::printf("usage: %s GFX [FILE]\n", argv[0]);
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IONBF, 0);  // a crash must not take what was said before with it
  const std::string option = std::string("--offload-arch=") + argv[1];
  const char *options[] = {option.c_str()};
  hiprtcProgram program = nullptr;
  if (failed(hiprtcCreateProgram(&program, source, "wave.hip", 0, nullptr, nullptr), "hiprtcCreateProgram")) return 1;
  if (failed(hiprtcCompileProgram(program, 1, options), "hiprtcCompileProgram")) {
    print_log(program);
    return 1;
  }
  size_t size = 0;
  if (failed(hiprtcGetCodeSize(program, &size), "hiprtcGetCodeSize")) return 1;
  std::vector<char> code(size);
  if (size == 0 || failed(hiprtcGetCode(program, code.data()), "hiprtcGetCode")) return 1;
  if (failed(hiprtcDestroyProgram(&program), "hiprtcDestroyProgram")) return 1;
  if (size < 64 || std::string(code.data(), 4) != "\177ELF") {
    std::printf("the code object of %zu bytes is no ELF file\n", size);
    return 1;
  }
  if (argc == 3 && !written(argv[2], code)) {
    std::printf("%s cannot be written\n", argv[2]);
    return 1;
  }
  std::printf("%s: code object of %zu bytes\n", argv[1], size);
  return 0;
}
