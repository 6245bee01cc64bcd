"""The four doors out. Each adapts one vendor's system straight into messages of the contract."""
