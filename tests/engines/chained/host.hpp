// What chain.cu needs of a GPU, on a processor: a block's threads take turns, each until it has to wait for others,
// and a warp's products are computed by its 32 threads together. It comes where instructions.cuh does.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include <ucontext.h>

#define __device__
#define __global__
#define __shared__
#define __launch_bounds__(threads)

struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct Place { int x; };

constexpr int THREADS = 384;
extern uint4 shared[];
static Place threadIdx, blockIdx;
static const Place blockDim{THREADS};

static ucontext_t scheduler, contexts[THREADS];
static void give_way() { swapcontext(&contexts[threadIdx.x], &scheduler); }

struct Barrier {
    int threads, arrived = 0, rounds = 0;
    void wait() {
        const int round = rounds;
        if (++arrived == threads) {
            arrived = 0;
            rounds++;
        }
        while (rounds == round) give_way();
    }
};
struct Warp {
    Barrier together{32};
    unsigned addresses[32], a[32][4], b[32][2];
};
static Barrier block{THREADS};
static Warp warps[THREADS / 32];
static Warp& own_warp() { return warps[threadIdx.x / 32]; }
static void __syncthreads() { block.wait(); }
template <class Value> static Value __ldg(const Value* at) { return *at; }
static std::size_t __cvta_generic_to_shared(const void* at) {
    return static_cast<const char*>(at) - reinterpret_cast<const char*>(shared);
}

static _Float16 half_of(unsigned pair, int second) {
    const std::uint16_t bits = static_cast<std::uint16_t>(second ? pair >> 16 : pair);
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return half;
}
static unsigned joined(_Float16 first, _Float16 second) {
    std::uint16_t bits[2];
    std::memcpy(&bits[0], &first, 2);
    std::memcpy(&bits[1], &second, 2);
    return bits[0] | static_cast<unsigned>(bits[1]) << 16;
}
static unsigned pair_of(float low, float high) { return joined(static_cast<_Float16>(low), static_cast<_Float16>(high)); }
static float2 floats_of(unsigned pair) { return {static_cast<float>(half_of(pair, 0)), static_cast<float>(half_of(pair, 1))}; }
static unsigned leaky(unsigned pair, unsigned slope) {
    _Float16 halves[2];
    for (int n = 0; n < 2; n++) {
        const _Float16 whole = half_of(pair, n), less = whole * half_of(slope, n);
        halves[n] = whole > less ? whole : less;
    }
    return joined(halves[0], halves[1]);
}

// PTX ISA 9.7, ldmatrix: lanes 8 n to 8 n + 7 give the rows of matrix n, of which lane l gets row l / 4.
static void load(unsigned (&a)[4], unsigned address) {
    Warp& warp = own_warp();
    const int lane = threadIdx.x % 32;
    warp.addresses[lane] = address;
    warp.together.wait();
    for (int n = 0; n < 4; n++)
        std::memcpy(&a[n], reinterpret_cast<const char*>(shared) + warp.addresses[8 * n + lane / 4] + lane % 4 * 4, 4);
    warp.together.wait();
}

// PTX ISA 9.7, mma.m16n8k16: which lane holds which element.
static void add_product(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    Warp& warp = own_warp();
    const int lane = threadIdx.x % 32;
    std::memcpy(warp.a[lane], a, sizeof a);
    warp.b[lane][0] = b0, warp.b[lane][1] = b1;
    warp.together.wait();
    for (int n = 0; n < 4; n++) {
        const int row = lane / 4 + n / 2 * 8, column = lane % 4 * 2 + n % 2;
        for (int k = 0; k < 16; k++) {
            const unsigned left = warp.a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
            const unsigned right = warp.b[column * 4 + k % 8 / 2][k / 8];
            sum[n] += static_cast<float>(half_of(left, k % 2)) * static_cast<float>(half_of(right, k % 2));
        }
    }
    warp.together.wait();
}
