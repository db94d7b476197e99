/* AVX-VNNI: the words of lanes_avx2.h with vpdpbusd and vpdpwssd in VEX encoding. */
#define LANES_VNNI 1
#include "cpu/lanes_avx2.h"
