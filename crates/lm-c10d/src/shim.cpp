// c10d's process groups of libtorch behind a C interface. Every function returns null, or what failed, to be given to
// lm_c10d_free.

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "libtorch_caught.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace {

struct Group {
  c10::intrusive_ptr<c10d::Backend> backend;
  // Where the engine wants its tensors.
  at::Device device = at::kCPU;
  // Under way, with their tensors.
  std::vector<std::pair<c10::intrusive_ptr<c10d::Work>, at::Tensor>> sums;
};

// The caller's memory as a tensor.
at::Tensor bytes(const void* memory, size_t length) {
  return at::from_blob(const_cast<void*>(memory), {static_cast<int64_t>(length)}, at::kByte);
}

void wait(const c10::intrusive_ptr<c10d::Work>& work) {
  work->wait();
}

// `work` of two tensors on the engine's device; the second is the result.
template <typename F>
void collective(Group& group, at::Tensor in, at::Tensor out, F work) {
  at::Tensor device_in = in.to(group.device);
  at::Tensor device_out = group.device.is_cpu() ? out : at::empty_like(out, out.options().device(group.device));
  wait(work(device_in, device_out));
  if (!group.device.is_cpu()) {
    out.copy_(device_out);
  }
}

#ifdef USE_C10D_GLOO
c10::intrusive_ptr<c10d::Backend> open_gloo(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size) {
  using Gloo = c10d::ProcessGroupGloo;
  auto options = Gloo::Options::create();
  // As Python does.
  if (const char* interfaces = std::getenv("GLOO_SOCKET_IFNAME"); interfaces != nullptr && *interfaces != 0) {
    std::stringstream names(interfaces);
    for (std::string name; std::getline(names, name, ',');) {
      options->devices.push_back(Gloo::createDeviceForInterface(name));
    }
  } else {
    options->devices.push_back(Gloo::createDefaultDevice());
  }
  options->threads = static_cast<int>(options->devices.size()) * 2;
  // It greets on standard output, which is the program's.
  std::stringstream greeting;
  auto* output = std::cout.rdbuf(greeting.rdbuf());
  try {
    auto group = c10::make_intrusive<Gloo>(store, rank, size, options);
    std::cout.rdbuf(output);
    return group;
  } catch (...) {
    std::cout.rdbuf(output);
    throw;
  }
}
#endif

}  // namespace

extern "C" {

// The processes meet at the store of host:port, which the launcher holds or, with `is_server`, this process. `device` is
// the GPU for NCCL, or -1 for Gloo.
char* lm_c10d_open(
    const char* host, uint16_t port, bool is_server, const char* prefix, int rank, int size, int device,
    int64_t timeout_ms, void** opened) {
  return caught([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server;
    options.numWorkers = size;
    options.waitWorkers = false;
    options.multiTenant = true;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(host, options);
    store = c10::make_intrusive<c10d::PrefixStore>(prefix, store);
    auto group = std::make_unique<Group>();
    if (device >= 0) {
#ifdef USE_C10D_NCCL
      group->device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device));
      auto nccl = c10d::ProcessGroupNCCL::Options::create();
      nccl->timeout = std::chrono::milliseconds(timeout_ms);
      group->backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, nccl);
#endif
    } else {
#ifdef USE_C10D_GLOO
      group->backend = open_gloo(store, rank, size);
      group->backend->setTimeout(std::chrono::milliseconds(timeout_ms));
#endif
    }
    TORCH_CHECK(group->backend, "built without ", device >= 0 ? "NCCL" : "Gloo");
    *opened = group.release();
  });
}

void lm_c10d_close(void* group) {
  delete static_cast<Group*>(group);
}

char* lm_c10d_limit_waits(void* group, int64_t timeout_ms) {
  return caught([&] { static_cast<Group*>(group)->backend->setTimeout(std::chrono::milliseconds(timeout_ms)); });
}

// Each rank gives every rank `share` bytes and gets as many of every rank.
char* lm_c10d_all_to_all(void* of, const void* sent, void* received, size_t share, size_t size) {
  return caught([&] {
    Group& group = *static_cast<Group*>(of);
    collective(group, bytes(sent, share * size), bytes(received, share * size), [&](at::Tensor& in, at::Tensor& out) {
      std::vector<int64_t> even;
      return group.backend->alltoall_base(out, in, even, even);
    });
  });
}

// All ranks get the `share` bytes of every rank.
char* lm_c10d_all_gather(void* of, const void* own, void* all, size_t share, size_t size) {
  return caught([&] {
    Group& group = *static_cast<Group*>(of);
    collective(group, bytes(own, share), bytes(all, share * size), [&](at::Tensor& in, at::Tensor& out) {
      return group.backend->_allgather_base(out, in);
    });
  });
}

// All ranks get the bytes of one.
char* lm_c10d_broadcast(void* of, int from, void* memory, size_t length) {
  return caught([&] {
    Group& group = *static_cast<Group*>(of);
    at::Tensor host = bytes(memory, length);
    std::vector<at::Tensor> tensors = {host.to(group.device)};
    c10d::BroadcastOptions options;
    options.rootRank = from;
    wait(group.backend->broadcast(tensors, options));
    if (!group.device.is_cpu()) {
      host.copy_(tensors[0]);
    }
  });
}

// Begins to add up a libtorch tensor of all ranks, in place, in the engine's own order. What the device has to do already
// comes before it; what it gets to do later does not wait for it until lm_c10d_finish_sums.
char* lm_c10d_sum_tensor(void* of, void* tensor) {
  return caught([&] {
    Group& group = *static_cast<Group*>(of);
    std::vector<at::Tensor> tensors = {*static_cast<at::Tensor*>(tensor)};
    group.sums.emplace_back(group.backend->allreduce(tensors), tensors[0]);
  });
}

// Has the device wait for all sums before what it gets to do from now on; with Gloo this process waits.
char* lm_c10d_finish_sums(void* of) {
  return caught([&] {
    auto sums = std::exchange(static_cast<Group*>(of)->sums, {});
    for (auto& sum : sums) {
      wait(sum.first);
    }
  });
}

void lm_c10d_free(char* message) {
  std::free(message);
}

}
