target_sources(pgg PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/fusion.c
  ${CMAKE_CURRENT_LIST_DIR}/attention.c
  ${CMAKE_CURRENT_LIST_DIR}/backend.c
  ${CMAKE_CURRENT_LIST_DIR}/compile.c
  ${CMAKE_CURRENT_LIST_DIR}/eager.c
  ${CMAKE_CURRENT_LIST_DIR}/experts.c
  ${CMAKE_CURRENT_LIST_DIR}/experts_form.c
  ${CMAKE_CURRENT_LIST_DIR}/kinds.c
  ${CMAKE_CURRENT_LIST_DIR}/matmul.c
  ${CMAKE_CURRENT_LIST_DIR}/product.c
  ${CMAKE_CURRENT_LIST_DIR}/rope.c
  ${CMAKE_CURRENT_LIST_DIR}/route.c
  ${CMAKE_CURRENT_LIST_DIR}/rows.c
  ${CMAKE_CURRENT_LIST_DIR}/slabs.c
  ${CMAKE_CURRENT_LIST_DIR}/stages.c
  ${CMAKE_CURRENT_LIST_DIR}/team.c)
