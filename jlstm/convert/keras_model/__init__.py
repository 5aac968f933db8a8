"""Reading of Keras models: their configurations, the places of their weights in files, and the conversion of layers.

Keras stores weights in one of two layouts of HDF5 files. Both are written by several versions of Keras, so that the names in
the file tell the layout, and the version does not.

In a *numbered file*, groups are named by class and number, and arrays by position: "layers/lstm_1/cell/vars/0" is the kernel
of the second LSTM. `.weights.h5` files are numbered, and so is the `model.weights.h5` inside a `.keras` file. Keras 3 and the
last versions of Keras 2 write them.

In a *legacy file*, groups and arrays have the names of layers and weights: "encoder/encoder/lstm_cell/kernel:0" is the kernel of
the layer "encoder". The attribute `layer_names` lists the layers in order, and `weight_names` of each layer its arrays. All
other `.h5` files are legacy files, whether Keras 1, 2 or 3 wrote them. "Legacy" is Keras's own word for this layout.

A group is a folder in the file, written with all groups around it. The role of an array is what the array is to its cell:
"kernel", "recurrent_kernel" or "bias".
"""
