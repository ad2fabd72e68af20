// A run of convolutions: one block takes a spectrum from its features to the result of the last convolution, and
// everything between stays in its shared memory. What is to be done is a table; see table.py.
//
// A curve of t points and c channels is t + 2 * ROWS rows of halves in shared memory, the first and last ROWS of
// them zeros, each row a point's channels. So a convolution is a product of matrices whose left one is read from
// there, shifted by a row for each tap, 16 points and 16 channels at a time. instructions.cuh comes before this.

constexpr int ROWS = 2;       // REACH in chain.py
constexpr int POINTS = 16;    // of a tile: TILE in table.py, as the next one
constexpr int CHANNELS = 16;  // of a tile of inputs, and of one of outputs: two of 8

struct Layer {
    int input, output, residual;  // where curves begin, in halves; output -1: the result; residual -1: none
    int in_row, out_row;          // halves from a point to the next
    int chunks, taps, step;       // inputs' tiles; the kernel's points; from one output to the next
    int first;                    // row that the first tap of the first output reads
    int points, tiles, channels;  // of the output; tiles of channels; an upsampled output has half its points here
    int leaky, up;                // inputs go through LeakyReLU; each point becomes two
    int weights, biases;          // where they begin: in tiles, in channels
};

__device__ void compute(const Layer& layer, unsigned short* memory, const uint4* weights, const float* biases,
                        unsigned slope, float* result) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, place = lane % 4;
    const int units = (layer.points + POINTS - 1) / POINTS * layer.tiles;
    const int steps = layer.taps * layer.chunks;
    for (int unit = warp; unit < units; unit += blockDim.x / 32) {
        const int point = unit / layer.tiles * POINTS, tile = unit % layer.tiles;
        float sums[2][4];
        for (int half = 0; half < 2; half++) {
            const float* bias = biases + layer.biases + tile * CHANNELS + half * 8 + place * 2;
            for (int n = 0; n < 4; n++) sums[half][n] = bias[n % 2];
        }
        const uint4* weight = weights + (layer.weights + tile * steps) * 32 + lane;
        const int row = (point + lane % 16) * layer.step + layer.first;
        unsigned address = static_cast<unsigned>(
            __cvta_generic_to_shared(memory + layer.input + row * layer.in_row + lane / 16 * 8));
        int chunk = 0;
#pragma unroll 4
        for (int step = 0; step < steps; step++) {
            const uint4 b = __ldg(weight + step * 32);
            unsigned a[4];
            load(a, address);
            if (layer.leaky)
                for (unsigned& each : a) each = leaky(each, slope);
            add_product(sums[0], a, b.x, b.y);
            add_product(sums[1], a, b.z, b.w);
            address += CHANNELS * 2;
            if (++chunk == layer.chunks) {
                chunk = 0;
                address += (layer.in_row - layer.chunks * CHANNELS) * 2;
            }
        }
        for (int half = 0; half < 2; half++)
            for (int below = 0; below < 2; below++) {
                const int at = point + group + below * 8;
                int channel = tile * CHANNELS + half * 8 + place * 2, to = at;
                if (at >= layer.points) continue;
                if (layer.up) {
                    const int second = channel >= layer.channels;
                    channel -= second * layer.channels;
                    to = at * 2 + second;
                }
                float low = sums[half][below * 2], high = sums[half][below * 2 + 1];
                const int there = (to + ROWS) * layer.out_row + channel;
                if (layer.residual >= 0) {
                    const float2 more = floats_of(*reinterpret_cast<unsigned*>(memory + layer.residual + there));
                    low += more.x;
                    high += more.y;
                }
                if (layer.output >= 0) {
                    *reinterpret_cast<unsigned*>(memory + layer.output + there) = pair_of(low, high);
                } else {
                    const int points = layer.up ? layer.points * 2 : layer.points;
                    if (channel < layer.channels) result[channel * points + to] = low;
                    if (channel + 1 < layer.channels) result[(channel + 1) * points + to] = high;
                }
            }
    }
}

// features: (spectra, channels, points); results: (spectra, result_size). size: halves of shared memory that curves
// take; row: from a point of the features there to the next.
extern "C" __global__ void __launch_bounds__(384)  // THREADS in kernel.py
    chain(const float* features, float* results, int channels, int points, int result_size, int row, int size,
          const Layer* layers, int count, const uint4* weights, const float* biases, unsigned slope) {
    extern __shared__ uint4 shared[];
    unsigned short* memory = reinterpret_cast<unsigned short*>(shared);
    for (int n = threadIdx.x; n < size / 8; n += blockDim.x) shared[n] = uint4{0, 0, 0, 0};
    __syncthreads();
    const float* own = features + static_cast<size_t>(blockIdx.x) * channels * points;
    for (int n = threadIdx.x; n < channels * points; n += blockDim.x) {
        const int channel = n / points, point = n % points;
        memory[(point + ROWS) * row + channel] = static_cast<unsigned short>(pair_of(own[n], 0));
    }
    for (int n = 0; n < count; n++) {
        __syncthreads();
        compute(layers[n], memory, weights, biases, slope, results + static_cast<size_t>(blockIdx.x) * result_size);
    }
}
