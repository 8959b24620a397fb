// Kernels of the covariance heads: the weight of every backward rule for every function of the spectrum, and the
// triangle of a symmetric matrix.
//
// One source for NVRTC and for a C++ compiler behind a shim that supplies threadIdx, __shared__ and __syncthreads.
// Therefore: static shared memory, no way past a barrier, literals as T(0.5). A block has TILE x ROWS threads;
// blockIdx.x is a tile, blockIdx.y strides over the batch. Matrices are row-major and dense. Nothing is summed by
// atomics, so that two runs give the same bits.

constexpr int TILE = 32;
constexpr int ROWS = 8;

// Tile (row, column), row <= column, that has this number among the upper tiles of a matrix, row by row.
__device__ inline void upper_tile(int number, int n, int& row, int& column) {
  const int tiles = (n + TILE - 1) / TILE;
  row = 0;
  for (int left = tiles; number >= left; --left) {
    number -= left;
    ++row;
  }
  column = row + number;
}

__device__ inline long long triangle_row(int i, int n) {
  return (long long)i * n - (long long)i * (i - 1) / 2 - i;  // + j: the place of (i, j), i <= j
}

__device__ inline long long triangle_size(int n) { return (long long)n * (n + 1) / 2; }

// The sum of n values, by a tree: the same bits in every block. Every thread of the block calls it.
template <typename T>
__device__ T block_sum(const T* values, int n, T* buffer) {
  const int thread = (int)(threadIdx.y * TILE + threadIdx.x);
  T sum = T(0);
  for (int i = thread; i < n; i += TILE * ROWS) sum += values[i];
  buffer[thread] = sum;
  for (int half = TILE * ROWS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) buffer[thread] += buffer[thread + half];
  }
  __syncthreads();
  return buffer[0];
}

// ---- Functions of the spectrum: the divided difference f[left, right] without cancellation, for eigenvalues >= 0 ----

// The larger of two eigenvalues, and t = log(smaller / larger), exact where they are close and where they are not.
template <typename T>
__device__ T larger(T left, T right) {
  return left > right ? left : right;
}
template <typename T>
__device__ T log_quotient(T left, T right) {
  const T most = larger(left, right), least = left > right ? right : left;
  if (most == T(0)) return T(0);
  return least + least < most ? log(least / most) : log1p(-(most - least) / most);
}

struct Sqrt {
  static constexpr bool INVERSE = false;
  template <typename T>
  static __device__ T difference(T left, T right, T) {
    return T(1) / (sqrt(left) + sqrt(right));
  }
};

struct InverseSqrt {
  static constexpr bool INVERSE = true;
  template <typename T>
  static __device__ T difference(T left, T right, T) {
    const T p = sqrt(left), q = sqrt(right);
    return T(-1) / (p * q * (p + q));
  }
};

struct Power {
  template <typename T>
  static __device__ T difference(T left, T right, T exponent) {
    const T t = log_quotient(left, right), slope = expm1(t);
    const T quotient = slope == T(0) ? exponent : expm1(exponent * t) / slope;
    return pow(larger(left, right), exponent - T(1)) * quotient;
  }
};

struct Log {
  template <typename T>
  static __device__ T difference(T left, T right, T) {
    const T t = log_quotient(left, right), slope = expm1(t);
    return (slope == T(0) ? T(1) : t / slope) / larger(left, right);
  }
};

struct Inverse {
  template <typename T>
  static __device__ T difference(T left, T right, T) {
    return T(-1) / (left * right);
  }
};

// ---- Rules: the ratio of the weight to the exact one, for eigenvalues >= 0 ----

struct Exact {
  template <typename T>
  static __device__ T ratio(T, T, T) {
    return T(1);
  }
};

struct Original {
  template <typename T>
  static __device__ T ratio(T left, T right, T) {
    return left == right ? T(0) : T(1);
  }
};

struct Taylor {  // parameter: degree + 1
  template <typename T>
  static __device__ T ratio(T left, T right, T parameter) {
    return -expm1(parameter * log_quotient(left, right));
  }
};

struct PowerIteration {  // parameter: iterations - 1/2
  template <typename T>
  static __device__ T ratio(T left, T right, T parameter) {
    const T most = larger(left, right);
    return T(1) + (most > T(0) ? pow((left > right ? right : left) / most, parameter) : T(0));
  }
};

struct Truncate {  // parameter: threshold
  template <typename T>
  static __device__ T ratio(T left, T right, T parameter) {
    const T scaled = parameter * fabs(left - right);
    return scaled > T(1) ? T(1) : scaled;
  }
};

// What a kernel asks of a function and a rule. Eigenvalues have their ridge; `scale` is one number per matrix.
template <typename Function, typename Rule>
struct Weight {
  template <typename T>
  static __device__ T scale(const T*, int, T, T*) {
    return T(1);
  }
  // 0 where the function has no derivative: a null eigenvalue with another
  template <typename T>
  static __device__ T pair(T left, T right, bool diagonal, T parameter, T exponent, T) {
    const T exact = Function::difference(left, right, exponent);
    if (exact - exact != T(0)) return T(0);
    return diagonal ? exact : exact * Rule::ratio(left, right, parameter);
  }
  template <typename T>
  static __device__ T null(T value, T ridge, T parameter, T exponent, T scale) {
    return pair(value, ridge, false, parameter, exponent, scale);
  }
  // d(trace term) / dS_ii, with the weight W_ii
  template <typename T>
  static __device__ T slope(T, T, T, T) {
    return T(0);
  }
};

struct Newton {};  // parameter: iterations; of the root or the inverse root

// Divided differences of the scalar iteration t = (3 - z y)/2, y <- y t, z <- z t from y = l / trace, z = 1. The root is
// y trace^(1/2), the inverse root z trace^(-1/2); scale: 1 / sqrt(trace). `shift` is what the ridge adds to the trace.
template <typename Function>
struct Weight<Function, Newton> {
  template <typename T>
  static __device__ T scale(const T* values, int n, T shift, T* buffer) {
    const T trace = block_sum(values, n, buffer) + shift;
    return trace > T(0) ? T(1) / sqrt(trace) : T(0);
  }
  template <typename T>
  static __device__ T factor(T scale) {
    return Function::INVERSE ? scale * scale * scale : scale;
  }
  template <typename T>
  static __device__ T difference(T left, T right, T parameter, T scale) {
    T yi = left * scale * scale, yj = right * scale * scale, zi = T(1), zj = T(1), y = T(1), z = T(0);
    for (int step = 0; step < (int)parameter; ++step) {
      const T ti = (T(3) - zi * yi) / T(2), tj = (T(3) - zj * yj) / T(2), t = -(zi * y + z * yj) / T(2);
      y = yi * t + y * tj;
      z = zi * t + z * tj;
      yi *= ti;
      zi *= ti;
      yj *= tj;
      zj *= tj;
    }
    return (Function::INVERSE ? z : y) * factor(scale);
  }
  template <typename T>
  static __device__ T pair(T left, T right, bool, T parameter, T, T scale) {
    return left == T(0) && right == T(0) ? T(0) : difference(left, right, parameter, scale);
  }
  template <typename T>
  static __device__ T null(T value, T ridge, T parameter, T, T scale) {
    return difference(value, ridge, parameter, scale);
  }
  template <typename T>
  static __device__ T slope(T value, T weight, T parameter, T scale) {
    T y = value * scale * scale, z = T(1);
    for (int step = 0; step < (int)parameter; ++step) {
      const T t = (T(3) - z * y) / T(2);
      y *= t;
      z *= t;
    }
    return (Function::INVERSE ? -z : y) * factor(scale) / T(2) - value * scale * scale * weight;
  }
};

// core = W o sym(S), minus S diag(w0) if `subtract`; also w0 (batch, n) and the terms (batch, n) of the trace term.
// A block does one tile above the diagonal and the tile below that mirrors it, with one weight for both.
// W is of the eigenvalues `kept` with a ridge, which the `channels` - n null ones have alone.
template <typename T, typename Function, typename Rule>
__global__ void spectral_core(const T* kept, const T* S, T* core, T* null_weights, T* trace_terms, T parameter,
                              T exponent, T ridge, int n, int channels, int batch, int subtract) {
  using W = Weight<Function, Rule>;
  __shared__ T upper[TILE][TILE + 1];
  __shared__ T lower[TILE][TILE + 1];
  __shared__ T row_values[TILE], row_nulls[TILE], column_values[TILE], column_nulls[TILE];
  __shared__ T buffer[TILE * ROWS];
  int row_tile, column_tile;
  upper_tile((int)blockIdx.x, n, row_tile, column_tile);
  const int i0 = row_tile * TILE, j0 = column_tile * TILE, c = (int)threadIdx.x;
  for (int b = (int)blockIdx.y; b < batch; b += (int)gridDim.y) {
    const T* values = kept + (long long)b * n;
    const T* source = S + (long long)b * n * n;
    T* target = core + (long long)b * n * n;
    const T scale = W::scale(values, n, (T)channels * ridge, buffer);
    if (threadIdx.y == 0) {
      row_values[c] = (i0 + c < n ? values[i0 + c] : T(0)) + ridge;
      row_nulls[c] = W::null(row_values[c], ridge, parameter, exponent, scale);
      column_values[c] = (j0 + c < n ? values[j0 + c] : T(0)) + ridge;
      column_nulls[c] = W::null(column_values[c], ridge, parameter, exponent, scale);
    }
    for (int r = (int)threadIdx.y; r < TILE; r += ROWS) {
      upper[r][c] = i0 + r < n && j0 + c < n ? source[(long long)(i0 + r) * n + j0 + c] : T(0);
      lower[r][c] = j0 + r < n && i0 + c < n ? source[(long long)(j0 + r) * n + i0 + c] : T(0);
    }
    __syncthreads();
    for (int r = (int)threadIdx.y; r < TILE; r += ROWS) {
      const int i = i0 + r, j = j0 + c;
      const T above = upper[r][c], below = lower[c][r];
      const T weight = W::pair(row_values[r], column_values[c], i == j, parameter, exponent, scale);
      const T both = weight * ((above + below) / T(2));
      upper[r][c] = subtract ? both - above * column_nulls[c] : both;
      lower[c][r] = subtract ? both - below * row_nulls[r] : both;
      if (i == j && i < n) {
        null_weights[(long long)b * n + i] = row_nulls[r];
        trace_terms[(long long)b * n + i] = above * W::slope(row_values[r], weight, parameter, scale);
      }
    }
    __syncthreads();
    for (int r = (int)threadIdx.y; r < TILE; r += ROWS) {
      if (i0 + r < n && j0 + c < n) target[(long long)(i0 + r) * n + j0 + c] = upper[r][c];
      if (i0 < j0 && j0 + r < n && i0 + c < n) target[(long long)(j0 + r) * n + i0 + c] = lower[r][c];
    }
    __syncthreads();
  }
}

// The upper triangle of Q, row by row, converted on the way. blockIdx.x: ROWS rows of a matrix, a warp for each.
template <typename From, typename To>
__global__ void triangle_pack(const From* Q, To* packed, int n, int batch) {
  const int i = (int)(blockIdx.x * ROWS + threadIdx.y);
  for (int b = (int)blockIdx.y; b < batch; b += (int)gridDim.y) {
    const From* source = Q + ((long long)b * n + i) * n;
    To* target = packed + (long long)b * triangle_size(n) + triangle_row(i, n);
    for (int j = i + (int)threadIdx.x; j < n; j += TILE) target[j] = (To)source[j];
  }
}

// The symmetric matrix of a triangle, off-diagonal entries times `factor`; an upper tile and its mirror per block.
template <typename From, typename To>
__global__ void triangle_spread(const From* packed, To* Q, To factor, int n, int batch) {
  __shared__ To tile[TILE][TILE + 1];
  int row_tile, column_tile;
  upper_tile((int)blockIdx.x, n, row_tile, column_tile);
  const int i0 = row_tile * TILE, j0 = column_tile * TILE, c = (int)threadIdx.x;
  for (int b = (int)blockIdx.y; b < batch; b += (int)gridDim.y) {
    const From* source = packed + (long long)b * triangle_size(n);
    To* target = Q + (long long)b * n * n;
    for (int r = (int)threadIdx.y; r < TILE; r += ROWS) {
      const int i = i0 + r, j = j0 + c;
      if (i <= j && j < n) tile[r][c] = (To)source[triangle_row(i, n) + j] * (i == j ? To(1) : factor);
    }
    __syncthreads();
    for (int r = (int)threadIdx.y; r < TILE; r += ROWS) {
      if (i0 + r <= j0 + c && j0 + c < n) target[(long long)(i0 + r) * n + j0 + c] = tile[r][c];
      if (i0 + c < j0 + r && j0 + r < n) target[(long long)(j0 + r) * n + i0 + c] = tile[c][r];
    }
    __syncthreads();
  }
}
