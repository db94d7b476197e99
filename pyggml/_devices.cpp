// Lists the OpenCL and CUDA devices of this machine for pyggml.info(); later the binding of the device backends.
// The drivers are opened at run time (dlopen) and never linked: without them the list is empty. Every function is
// looked up and checked before use. Declarations follow the published OpenCL 1.2 and CUDA driver interfaces.

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#if defined(_WIN32)
#include <windows.h>
#define DRIVER_CALL __stdcall
#else
#include <dlfcn.h>
#define DRIVER_CALL
#endif

namespace py = pybind11;

namespace {

// A shared library that stays open: drivers do not like to be unloaded while their threads run.
class Library {
 public:
  explicit Library(const std::vector<const char *> &names) {
    for (const char *name : names) {
#if defined(_WIN32)
      handle_ = reinterpret_cast<void *>(LoadLibraryA(name));
#else
      handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
#endif
      if (handle_ != nullptr) return;
    }
  }
  explicit operator bool() const { return handle_ != nullptr; }

  // The function, or nullptr; fn receives it. Returns whether it is there.
  template <typename Fn>
  bool find(const char *name, Fn *fn) const {
#if defined(_WIN32)
    *fn = reinterpret_cast<Fn>(reinterpret_cast<void *>(GetProcAddress(reinterpret_cast<HMODULE>(handle_), name)));
#else
    *fn = reinterpret_cast<Fn>(dlsym(handle_, name));
#endif
    return *fn != nullptr;
  }

 private:
  void *handle_ = nullptr;
};

struct Device {
  std::string backend, name, driver;
  uint64_t memory = 0;  // bytes
};

// ---- OpenCL ----------------------------------------------------------------------------------------------------

constexpr uint32_t kPlatformVersion = 0x0901;
constexpr uint64_t kDeviceTypeAll = 0xFFFFFFFF;
constexpr uint32_t kDeviceMemory = 0x101F, kDeviceName = 0x102B, kDriverVersion = 0x102D;
constexpr uint32_t kMostDevices = 256;  // more than any machine has: a broken driver's count is not believed

using Handle = void *;
using ClPlatforms = int32_t(DRIVER_CALL *)(uint32_t, Handle *, uint32_t *);
using ClInfo = int32_t(DRIVER_CALL *)(Handle, uint32_t, size_t, void *, size_t *);
using ClDevices = int32_t(DRIVER_CALL *)(Handle, uint64_t, uint32_t, Handle *, uint32_t *);

std::string cl_text(ClInfo info, Handle of, uint32_t what) {
  char text[1024] = {0};
  size_t size = 0;
  if (info(of, what, sizeof text - 1, text, &size) != 0) return "";
  return text;
}

void list_opencl(std::vector<Device> *out) {
#if defined(_WIN32)
  Library lib({"OpenCL.dll"});
#elif defined(__APPLE__)
  Library lib({"/System/Library/Frameworks/OpenCL.framework/OpenCL"});
#else
  Library lib({"libOpenCL.so.1", "libOpenCL.so"});
#endif
  ClPlatforms platforms_of = nullptr;
  ClDevices devices_of = nullptr;
  ClInfo platform_info = nullptr, device_info = nullptr;
  if (!lib || !lib.find("clGetPlatformIDs", &platforms_of) || !lib.find("clGetDeviceIDs", &devices_of) ||
      !lib.find("clGetPlatformInfo", &platform_info) || !lib.find("clGetDeviceInfo", &device_info))
    return;
  uint32_t n_platform = 0;
  if (platforms_of(0, nullptr, &n_platform) != 0 || n_platform == 0 || n_platform > kMostDevices) return;
  std::vector<Handle> platforms(n_platform);
  if (platforms_of(n_platform, platforms.data(), nullptr) != 0) return;
  for (Handle platform : platforms) {
    uint32_t n = 0;
    if (devices_of(platform, kDeviceTypeAll, 0, nullptr, &n) != 0 || n == 0 || n > kMostDevices) continue;
    std::vector<Handle> devices(n);
    if (devices_of(platform, kDeviceTypeAll, n, devices.data(), nullptr) != 0) continue;
    for (Handle device : devices) {
      Device d;
      d.backend = "opencl";
      d.name = cl_text(device_info, device, kDeviceName);
      d.driver = cl_text(platform_info, platform, kPlatformVersion) + ", driver " +
                 cl_text(device_info, device, kDriverVersion);
      if (device_info(device, kDeviceMemory, sizeof d.memory, &d.memory, nullptr) != 0) d.memory = 0;
      out->push_back(d);
    }
  }
}

// ---- CUDA ------------------------------------------------------------------------------------------------------

using CuInit = int(DRIVER_CALL *)(unsigned);
using CuInt = int(DRIVER_CALL *)(int *);
using CuGet = int(DRIVER_CALL *)(int *, int);
using CuName = int(DRIVER_CALL *)(char *, int, int);
using CuMemory = int(DRIVER_CALL *)(size_t *, int);

void list_cuda(std::vector<Device> *out) {
#if defined(_WIN32)
  Library lib({"nvcuda.dll"});
#else
  Library lib({"libcuda.so.1", "libcuda.so"});
#endif
  CuInit init = nullptr;
  CuInt version_of = nullptr, count_of = nullptr;
  CuGet get = nullptr;
  CuName name_of = nullptr;
  CuMemory memory_of = nullptr;
  if (!lib || !lib.find("cuInit", &init) || !lib.find("cuDriverGetVersion", &version_of) ||
      !lib.find("cuDeviceGetCount", &count_of) || !lib.find("cuDeviceGet", &get) ||
      !lib.find("cuDeviceGetName", &name_of) || !lib.find("cuDeviceTotalMem_v2", &memory_of))
    return;
  int version = 0, count = 0;
  if (init(0) != 0 || count_of(&count) != 0) return;
  if (version_of(&version) != 0) version = 0;
  for (int i = 0; i < count; i++) {
    int device = 0;
    char name[256] = {0};
    size_t memory = 0;
    if (get(&device, i) != 0 || name_of(name, sizeof name - 1, device) != 0) continue;
    if (memory_of(&memory, device) != 0) memory = 0;
    Device d;
    d.backend = "cuda";
    d.name = name;
    d.driver = "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
    d.memory = memory;
    out->push_back(d);
  }
}

py::str text_of(const std::string &raw) {
  PyObject *text = PyUnicode_DecodeUTF8(raw.data(), static_cast<Py_ssize_t>(raw.size()), "replace");
  if (text == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(text);
}

py::list devices() {
  std::vector<Device> found;
  {
    py::gil_scoped_release free;  // a driver may take seconds to wake its devices
    list_cuda(&found);
    list_opencl(&found);
  }
  py::list rows;
  for (const Device &d : found) {
    py::dict row;
    row["backend"] = d.backend;
    row["name"] = text_of(d.name);
    row["memory"] = d.memory;
    row["driver"] = text_of(d.driver);
    rows.append(row);
  }
  return rows;
}

}  // namespace

PYBIND11_MODULE(_devices, module) {
  module.doc() = "Devices other than the CPU. Optional: built where a C++ compiler is at hand.";
  module.def(
      "devices", &devices,
      "Dicts with backend ('cuda' or 'opencl'), name, memory (bytes) and driver; an empty list without drivers.");
}
