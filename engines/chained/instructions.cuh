// The instructions of a GPU that C++ has no words for (PTX ISA 9.7). Halves lie in pairs, the first one below.

// Rounds to nearest.
__device__ unsigned pair_of(float low, float high) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ float2 floats_of(unsigned pair) {
    float2 both;
    asm("{ .reg .f16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
        : "=f"(both.x), "=f"(both.y) : "r"(pair));
    return both;
}

// LeakyReLU, slope (twice) below 1.
__device__ unsigned leaky(unsigned pair, unsigned slope) {
    unsigned less;
    asm("{ .reg .b32 scaled; mul.rn.f16x2 scaled, %1, %2; max.f16x2 %0, %1, scaled; }"
        : "=r"(less) : "r"(pair), "r"(slope));
    return less;
}

// A tile of 16 rows of 16 halves as a warp's lanes hold it for a product: lane n gives the address of row n % 16,
// and of its second half from lane 16 on.
__device__ void load(unsigned (&a)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(address) : "memory");
}

// sum += a b: 16 x 16 times 16 x 8, in the lanes of a warp.
__device__ void add_product(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
