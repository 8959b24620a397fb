// Runs a CUDA kernel on the CPU: blocks one after the other, each thread of a block a fibre, a barrier a yield.
// It finds wrong numbers and, under a sanitizer, wrong addresses; it cannot see races between threads.
#include <ucontext.h>

#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define __shared__ static

using std::expm1;
using std::fabs;
using std::log;
using std::log1p;
using std::pow;
using std::sqrt;

struct Index {
  unsigned x, y;
};
static Index threadIdx, blockIdx, gridDim;

struct Fibre {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done = false;
};
static constexpr size_t STACK = 1 << 16;
static ucontext_t scheduler;
static Fibre* current;
static const std::function<void()>* body;

static void __syncthreads() { swapcontext(&current->context, &scheduler); }

static void run_fibre() {
  (*body)();
  current->done = true;
  swapcontext(&current->context, &scheduler);
}

// Returns false if some threads of a block ended while others waited at a barrier.
static bool run_block(std::vector<Fibre>& fibres, unsigned width) {
  for (Fibre& fibre : fibres) {
    fibre.done = false;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = STACK;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, run_fibre, 0);
  }
  for (;;) {
    size_t ended = 0;
    for (size_t i = 0; i < fibres.size(); ++i) {
      current = &fibres[i];
      threadIdx = {unsigned(i) % width, unsigned(i) / width};
      swapcontext(&scheduler, &current->context);
      ended += current->done;
    }
    if (ended) return ended == fibres.size();
  }
}

static int run_grid(Index grid, Index block, const std::function<void()>& function) {
  std::vector<Fibre> fibres(block.x * block.y);
  for (Fibre& fibre : fibres) fibre.stack = std::make_unique<char[]>(STACK);
  body = &function;
  gridDim = grid;
  for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = {x, y};
      if (!run_block(fibres, block.x)) return 1;
    }
  return 0;
}
