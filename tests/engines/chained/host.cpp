// After chain.cu: its blocks one after the other, each with all its threads.

uint4 shared[1 << 14];

struct Given {
    const float* features;
    float* results;
    int channels, points, result_size, row, size;
    const Layer* layers;
    int count;
    const uint4* weights;
    const float* biases;
    unsigned slope;
};
static Given given;
static int running;

static void thread() {
    chain(given.features, given.results, given.channels, given.points, given.result_size, given.row, given.size,
          given.layers, given.count, given.weights, given.biases, given.slope);
    running--;
}

extern "C" void run(int spectra, int shared_bytes, const float* features, float* results, int channels, int points,
                    int result_size, int row, int size, const Layer* layers, int count, const uint4* weights,
                    const float* biases, unsigned slope) {
    given = {features, results, channels, points, result_size, row, size, layers, count, weights, biases, slope};
    std::vector<char> stacks(THREADS << 16);
    for (blockIdx.x = 0; blockIdx.x < spectra; blockIdx.x++) {
        std::memset(shared, 0x7f, shared_bytes);  // not a number, as memory of others may be
        std::vector<char> ended(THREADS);
        for (int n = 0; n < THREADS; n++) {
            getcontext(&contexts[n]);
            contexts[n].uc_stack.ss_sp = stacks.data() + (n << 16);
            contexts[n].uc_stack.ss_size = 1 << 16;
            contexts[n].uc_link = &scheduler;
            makecontext(&contexts[n], thread, 0);
        }
        for (running = THREADS; running;)
            for (int n = 0; n < THREADS; n++) {
                if (ended[n]) continue;
                const int before = running;
                threadIdx.x = n;
                swapcontext(&scheduler, &contexts[n]);
                ended[n] = running < before;
            }
    }
}
