// Functions of libtorch behind a C interface. Those that can fail return null, or what failed, to be given to lm_aten_free.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "libtorch_caught.hpp"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

namespace {

std::vector<at::Tensor> list(void* const* tensors, size_t count) {
  std::vector<at::Tensor> all;
  all.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    all.push_back(*static_cast<at::Tensor*>(tensors[i]));
  }
  return all;
}

// A number where these tensors are, which a GPU need not be waited for.
at::Tensor number(double value, const at::Tensor& beside) {
  return at::full({}, value, beside.options().dtype(at::kFloat));
}

std::mutex turn;
std::map<std::string, uint64_t> calls;

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
  const std::lock_guard<std::mutex> lock(turn);
  ++calls[function.name()];
  return nullptr;
}

}  // namespace

extern "C" {

// One step of AdamW of `count` parameters in place; the gradients, which it divides by `divisor`, are overwritten.
char* lm_aten_fused_adamw(
    void* const* p, void* const* m, void* const* v, void* const* g, size_t count, double learning_rate, double beta1,
    double beta2, double weight_decay, double epsilon, double step, double divisor) {
  return caught([&] {
    if (count == 0) {
      return;
    }
    const c10::NoGradGuard no_grad;
    const auto parameters = list(p, count);
    const std::vector<at::Tensor> steps(count, number(step, parameters[0]));
    std::optional<at::Tensor> scale;
    if (divisor != 1.0) {
      scale = number(divisor, parameters[0]);
    }
    at::_fused_adamw_(
        parameters, list(g, count), list(m, count), list(v, count), {}, steps, learning_rate, beta1, beta2,
        weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false, scale);
  });
}

// The Euclidean norm of each of `count` tensors, one after the other in a new tensor.
char* lm_aten_norms(void* const* tensors, size_t count, void** norms) {
  return caught([&] {
    const c10::NoGradGuard no_grad;
    *norms = new at::Tensor(at::stack(at::_foreach_norm(list(tensors, count), 2)));
  });
}

// Walks back from `output`, whose gradient is known, to `count` inputs: their gradients.
char* lm_aten_gradients(void* output, void* gradient, void* const* inputs, size_t count, void** gradients) {
  return caught([&] {
    const auto found = torch::autograd::grad(
        {*static_cast<at::Tensor*>(output)}, list(inputs, count), {*static_cast<at::Tensor*>(gradient)});
    for (size_t i = 0; i < count; ++i) {
      gradients[i] = new at::Tensor(found[i]);
    }
  });
}

// Begins to count the calls of ATen's functions by any thread.
char* lm_aten_count_calls(uint64_t* counting) {
  return caught([&] {
    {
      const std::lock_guard<std::mutex> lock(turn);
      calls.clear();
    }
    *counting = at::addGlobalCallback(at::RecordFunctionCallback(count).scopes({at::RecordScope::FUNCTION}));
  });
}

// Ends it, and tells them to `tell`.
void lm_aten_counted(uint64_t counting, void (*tell)(void*, const char*, uint64_t), void* to) {
  at::removeCallback(counting);
  const std::lock_guard<std::mutex> lock(turn);
  for (const auto& [name, times] : calls) {
    tell(to, name.c_str(), times);
  }
}

void lm_aten_free(char* message) {
  std::free(message);
}

}
