# SPDX-License-Identifier: MIT OR Apache-2.0
# Read by init in the scenario `kvm`: emulated processors have SVM.
modprobe kvm-amd
kvmguest &
for second in 1 2 3 4 5 6 7 8; do [ -e /tmp/kvm-is-ready ] || sleep 5; done
