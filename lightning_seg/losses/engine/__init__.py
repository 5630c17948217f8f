"""What losses are computed by: checked inputs, statistics of pixels, and the one pass over the logits behind them.

A loss is a function of a few sums over the valid pixels (`statistics`), all of which come from one pass over the
logits (`class_sums`), which a compound makes once for all its terms. No one-hot tensor is built.

With p the probabilities and ℓ = log p_y the log-probability of a pixel's label y, over the valid pixels i of an image:

    by label      Σ 1,  Σ ℓ,  Σ p_y,  Σ (1 - p_y)^γ ℓ             of the pixels of each label
    by channel    Σ p_c,  Σ p_c²,  Σ log p_c                       over all pixels
    by bin        the number of errors |p_c - [y = c]| and their sum, for each class, label and bin of `error_bins`

The gradient is written in closed form. With a_i = ∂L/∂ℓ_i, h_{i,c} = ∂L/∂p_{i,c} through the sums by channel and by
bin, and u_c = ∂L/∂(Σ log p_c),

    ∂L/∂z_{i,c} = a_i (δ_{c,y_i} - p_{i,c}) + p_{i,c} (h_{i,c} - Σ_k h_{i,k} p_{i,k}) + u_c - p_{i,c} Σ_k u_k

for the softmax, and each channel by itself for the sigmoid; it is 0 at void pixels, whatever logits they hold. The
logits are read once forward, and read and written once backward.

| module | holds |
| --- | --- |
| `pixels`, `labels` | what a loss is called with, checked and brought to one layout |
| `statistics` | the sums and maps that losses are functions of |
| `class_sums`, `interface` | the operators of softmax and sigmoid, and the types that they share with the back ends |
| `soft_sums` | the same of soft targets |
| `back_ends`, `self_check` | which back end computes a batch; whether it is right on the device |
| `predictions` | what logits predict, and the counts that scores are functions of |
| `torch_backend` | torch operations, for every device and dtype: the reference |
| `numba_backend`, `numba_kernels`, `numba_cache` | kernels for the CPU |
| `triton_backend`, `triton_kernels` | kernels for CUDA |
| `histograms`, `error_bins`, `label_blocks`, `block_threads`, `bin_count` | what the back ends are made of |
| `jaccard_integrals` | the integral of the Jaccard loss over histograms of errors |
| `reduction`, `distributed` | means over pixels, classes and images; sums over processes |
| `lazy_property`, `dtypes` | a property computed once; what is computed in which floating-point type |
"""
