"""The demo: a mosaic of real micrographs, put together by the pools of :mod:`nornir_pools`.

Run it with ``python -m nornir_pools demo``. It needs the extra packages of ``nornir_pools[demo]``; this module and
:mod:`nornir_pools.demo.main` import none of them, so that the command line can say so when they are missing.
"""
