# nnunet-uhf in a container. On a CPU (the default), or on NVIDIA's:
#   docker build -t nnunet-uhf .
#   docker build -t nnunet-uhf:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
#   docker run --rm -it [--gpus all] --shm-size 8g -v "$PWD/data:/data" nnunet-uhf nnunet-uhf doctor
# nnU-Net's workers pass images through shared memory: without --shm-size they end with "Bus error".
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# torch first, and torchvision from the same index: nnU-Net finds no trainer where the two do not fit
RUN pip install --no-cache-dir torch torchvision --index-url "${TORCH_INDEX}"

WORKDIR /opt/nnunet-uhf
COPY . .
RUN pip install --no-cache-dir . && nnunet-uhf doctor

ENV nnUNet_raw=/data/nnUNet_raw \
    nnUNet_preprocessed=/data/nnUNet_preprocessed \
    nnUNet_results=/data/nnUNet_results \
    OMP_WAIT_POLICY=PASSIVE

RUN useradd --create-home user
USER user
WORKDIR /data
CMD ["nnunet-uhf", "--help"]
