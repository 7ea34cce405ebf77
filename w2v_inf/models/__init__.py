from w2v_inf import kernel_cache

kernel_cache.register()  # before any module here defines a kernel
