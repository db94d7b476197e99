target_sources(pgg PRIVATE ${CMAKE_CURRENT_LIST_DIR}/table.c)
